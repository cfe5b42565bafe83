"""A whole search on the embedded models, without key, GPU or network: `python examples/search.py` (some minutes)."""

from penjing import Recipe, SearchConfig, SearchSession

recipe = Recipe(warmup_steps=12, training_steps=12, batch_size=2, micro_batch_size=1)
session = SearchSession.start(SearchConfig(max_parameters=115_000_000, trials=3, recipe=recipe))
for event in session.stream():
    print(event)
best = session.best()
print(f"best: trial {best.number}, loss {best.loss:.4f}, {best.architecture.describe()}")
print(session.export(best, f"{session.run_id}-model"))
