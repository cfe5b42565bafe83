"""What Streamlit runs for everybody who looks: the pages and the way between them."""

import streamlit as st

from penjing.page.places import pages

st.set_page_config(page_title="Penjing", layout="wide")
st.navigation(list(pages().values())).run()
