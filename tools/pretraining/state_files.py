"""Names of the files of a training state on disk; `tools.pretraining.checkpoint` writes and reads them."""

STATE_FILE = "state.json"
TENSOR_FILES = ("weights.safetensors", "optimizer.safetensors")
