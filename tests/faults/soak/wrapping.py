"""Functions of the product wrapped from outside, in the process that runs them."""

import functools
from collections.abc import Callable
from typing import Any

PassBy = Callable[[], None]
Installer = Callable[[PassBy], None]


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by `around(original, *arguments)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        return around(original, *arguments, **named)

    setattr(owner, name, wrapped)


def before(pass_by: PassBy) -> Callable[..., Any]:
    """For `wrap`: pass by, then do what is to be done."""

    def around(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        pass_by()
        return original(*arguments, **named)

    return around


def after(pass_by: PassBy) -> Callable[..., Any]:
    """For `wrap`: do what is to be done, then pass by."""

    def around(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        pass_by()
        return result

    return around
