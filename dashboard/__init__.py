"""The dashboard: pages that read what worker and monitor have stored.

app.py        the entry: which pages there are, and what surrounds them
views/        one module a page (never `pages/`: Streamlit would serve those past the entry)
access.py     who asks, and what they may see and do
data.py       what the database says, cached for some seconds
asking.py     what the explaining process says
changes.py    what differs between two windows, beyond chance. Pure
compared.py   the panel of it; saving.py what a window saves; what_if.py another threshold
report.py     the same as a page or JSON that opens offline. Pure
closer.py     one image of many: its score, its original, what people say of it by three keys (reviewing.py)
grid.py       many images, each with a box: what is chosen goes into a zip for labelling
representing.py  what represents a change, beside the strangest, normal ones and the reference's nearest
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
