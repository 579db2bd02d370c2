"""Pure maths on logits and features."""
