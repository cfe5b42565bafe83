"""Times a GGUF file in a stock llama.cpp, in a process of its own: the child that `speed_process` starts."""

import json
import urllib.request
from typing import Any

from tools.evaluation.speed_process import Repeat, SpeedRequest, serve

# Requests to 127.0.0.1 must not go to a proxy that the environment names.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def prepare(request: SpeedRequest) -> Repeat:
    """A server on the file with one slot, a context as long as the text, and llama.cpp's own defaults otherwise."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(request.path)
    parameters.hostnames, parameters.port, parameters.ui, parameters.verbosity = ["127.0.0.1"], 0, False, 2
    parameters.n_parallel, parameters.n_gpu_layers = 1, 0
    parameters.n_ctx = len(request.prompt) + request.new_tokens + 1
    parameters.cache_prompt, parameters.cache_ram_mib = False, 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = request.threads
    server = xllamacpp.Server(parameters)
    url = f"{server.listening_address}/completion"
    body = {
        "prompt": list(request.prompt),
        # The prompt's own reading gives the first one.
        "n_predict": request.new_tokens + 1,
        "ignore_eos": True,
        "cache_prompt": False,
        # The most probable token, without llama.cpp's other samplers.
        "temperature": 0,
        "samplers": ["temperature"],
    }

    def repeat() -> tuple[float, float]:
        # Bound here, as the server lives as long as its object.
        assert server is not None  # noqa: S101
        return milliseconds(_post(url, body)["timings"], request)

    return repeat


def milliseconds(timings: dict[str, Any], request: SpeedRequest) -> tuple[float, float]:
    """From the server's own clock: to read the prompt, and for each token after the first.

    The server's `predicted_ms` begins when the prompt has been read, which is also when the first token is there.
    Raises RuntimeError where it read or wrote another number of tokens than asked.
    """
    read, written = int(timings["prompt_n"]), int(timings["predicted_n"])
    if (read, written) != (len(request.prompt), request.new_tokens + 1):
        raise RuntimeError(f"llama.cpp read {read} tokens and wrote {written}, not what it was asked to")
    return float(timings["prompt_ms"]), float(timings["predicted_ms"]) / request.new_tokens


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with _DIRECT.open(asked) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    return found


def main() -> None:
    """Serve one request."""
    import xllamacpp  # noqa: F401 - memory of the engine is counted before the model is there

    serve(prepare)


if __name__ == "__main__":
    main()
