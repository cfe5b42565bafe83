"""The LangGraph state machine of a search: state, nodes, routing, checkpoints, the session.

`graph.session.SearchSession` is the way in; this module stays light, since the command line imports it.
"""

import os

# Read by LangGraph once, at its first import: checkpoints then hold plain values only and load nothing else.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
