"""Times transformers' own decoding in a process of its own: the child that `tools.evaluation.speed_process` starts."""

from tools.evaluation.speed_process import Repeat, SpeedRequest, serve

FORMATS = ("float32", "bfloat16", "float16")
"""Number formats of the weights, which are also those of the computation."""


def prepare(request: SpeedRequest) -> Repeat:
    """The model on the processor, in the asked format and with the asked threads."""
    import torch

    from tools.evaluation.edge import timed_run
    from tools.evaluation.edge_model import open_model

    torch.set_num_threads(request.threads)
    model = open_model(request.path, getattr(torch, request.format))
    prompt = torch.tensor([request.prompt])

    def repeat() -> tuple[float, float]:
        with torch.no_grad():
            prefill, steps = timed_run(model, prompt, request.new_tokens)
        return prefill, sum(steps) / len(steps)

    return repeat


def main() -> None:
    """Serve one request."""
    import tools.evaluation.edge_model  # noqa: F401 - memory of the engine is counted before the model is there

    serve(prepare)


if __name__ == "__main__":
    main()
