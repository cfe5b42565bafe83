"""Data sets of the hub, also without a network: then from what is in the local cache, at once and without retries."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tools.errors import InputError

_ANY_DATA_SET = "Salesforce/wikitext"


@contextlib.contextmanager
def hub_data(what: str, advice: str) -> Iterator[None]:
    """While this is open, `datasets` asks the hub where it can be reached, and else looks into its cache only.

    Raises InputError that says why `what` cannot be had, with `advice`, in place of the errors of the libraries.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # the HTTP client's own

    reachable = _reachable()
    try:
        with contextlib.nullcontext() if reachable else _cache_only():
            yield
    except (OSError, ValueError, HTTPError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if not reachable:
            reason = "it cannot be reached, and the local cache does not have it"
        raise InputError(f"{what} cannot be had from the hub ({reason}); {advice}.") from error


@contextlib.contextmanager
def _cache_only() -> Iterator[None]:
    import datasets  # type: ignore[import-untyped]
    import huggingface_hub.constants

    # The libraries read their own constants, which come from the environment when they are imported.
    places: tuple[Any, ...] = (huggingface_hub.constants, datasets.config)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _reachable() -> bool:
    """One plain request, which fails at once without a network, where a download would try again and again."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined] # the HTTP client's own

    try:
        HfApi().dataset_info(_ANY_DATA_SET, timeout=10)
    except HfHubHTTPError:
        return True  # whatever it answered, it answered
    except (HTTPError, OSError):
        return False
    return True
