"""The nodes of the state machine, one file each: `async def node(state, runtime) -> update`."""
