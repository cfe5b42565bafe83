"""A whole search on the embedded model, without key, GPU or network: `python examples/search.py` (a few minutes)."""

from penjing import SearchConfig, SearchSession
from tools.settings import Recipe

recipe = Recipe(warmup_steps=12, training_steps=12, batch_size=2, micro_batch_size=1)
config = SearchConfig(max_parameters=115_000_000, trials=3, recipe=recipe)
session = SearchSession.start(config)
for event in session.stream():
    print(event)
best = session.best()
print(f"best: trial {best.number}, loss {best.loss:.4f}, {best.architecture.describe()}")
print(session.export(best, f"{session.run_id}-model"))
