"""The entry: Streamlit runs this script for every visitor. Which pages there are; each draws itself."""

from pathlib import Path

import streamlit as st

from dashboard import access, frame, markup
from dashboard.menu import pages
from dashboard.style import rules

st.set_page_config(
    page_title="oodwatch",
    page_icon=str(Path(__file__).with_name("icon.png")),
    layout="wide",
    initial_sidebar_state="auto",
)
st.html(rules(frame.palette()))
page = st.navigation(pages())
if (why := access.why_not_in()) is not None:
    st.html(markup.empty("Nothing is shown to you.", (why,)))
else:
    frame.begin()
    page.run()
