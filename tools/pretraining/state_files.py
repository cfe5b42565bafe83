"""Names of the files of a training state and of a growth on disk, for those who only look: it needs no torch."""

STATE_FILE = "state.json"
TENSOR_FILES = ("weights.safetensors", "optimizer.safetensors")
TRAINING_FOLDER, GROWTH_TENSOR_FILE, GROWTH_FILE = "training", "growth.safetensors", "growth.json"
NOTES_FILE = "notes.json"
