"""The dashboard: pages that read what worker and monitor have stored.

app.py        the entry: which pages there are, and what surrounds them
views/        one module a page (never `pages/`: Streamlit would serve those past the entry)
access.py     who asks, and what they may see and do
data.py       what the database says, cached for some seconds
asking.py     what the explaining process says
facts.py      what that means: trust, verdict, excess. Pure
coverage.py   what is new and what is gone, of stored rows. Pure
proposals.py  a window that may be accepted as normal. Pure
background.py work that takes longer than a page may
charts/       Vega-Lite specifications as dictionaries. Pure
markup.py     pieces of HTML, every text escaped. Pure
links.py      addresses that reproduce a view. Pure
windows.py    how time is cut into buckets. Pure
serving.py    the server
gates.py      who may reach it
signing_in.py the same, where people sign in here
"""
