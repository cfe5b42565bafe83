"""What changed between two sets of settings, by full names."""

from graph.setting_changes import setting_changes


def test_only_what_changed_is_told() -> None:
    old = {"trials": 6, "recipe": {"training_steps": 24, "batch_size": 4}, "budget": {"usd": None}}
    new = {"trials": 6, "recipe": {"training_steps": 9, "batch_size": 4}, "budget": {"usd": 5.0}, "approve": True}
    assert setting_changes(old, new) == [
        "recipe.training_steps: 24 -> 9",
        "budget.usd: None -> 5.0",
        "approve: None -> True",
    ]
    assert setting_changes(new, new) == []
