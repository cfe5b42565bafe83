"""How an exported file is run: for each tool that opens it, the lines to type, as a model card shows them.

Every tool here was seen to open such files. Paths are relative to the folder that holds the export's own.
"""

from dataclasses import dataclass

from tools.architecture import Architecture
from tools.export.model_card import CardFile

# Architectures of GGUF files that transformers reads itself.
_READ_BY_TRANSFORMERS = ("llama", "qwen2", "qwen3")


@dataclass(frozen=True)
class Tool:
    """One tool: its name, a remark, and code in `language` (python or sh)."""

    name: str
    language: str
    code: str
    remark: str = ""


def tools_for(folder: str, file: CardFile, architecture: Architecture, has_window: bool = False) -> list[Tool]:
    """The tools that open `file` in `folder`, whose design is `architecture`; `has_window`: attention slides."""
    if file.format == "gguf":
        return _for_gguf(f"{folder}/{file.name}", folder, file)
    return _for_directory(folder, file, architecture, has_window)


def _for_directory(folder: str, file: CardFile, architecture: Architecture, has_window: bool) -> list[Tool]:
    trust = ", trust_remote_code=True" if file.remote_code else ""
    transformers = Tool(
        name="transformers",
        language="python",
        code=(
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{folder}"{trust})\n'
            f'model = AutoModelForCausalLM.from_pretrained("{folder}"{trust})\n'
            'inputs = tokenizer("Once upon a time", return_tensors="pt")\n'
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))"
        ),
        remark="with the code beside the weights" if file.remote_code else "",
    )
    llama = Tool(
        name="llama.cpp",
        language="sh",
        code=(
            f"penjing export {folder} {folder}.gguf --quantise q8_0\n"
            f'llama-cli -m {folder}.gguf -p "Once upon a time" -n 40'
        ),
        remark="first as one file",
    )
    if opens_in_mlx(file, architecture, has_window):
        third = Tool(
            name="mlx-lm",
            language="sh",
            code=f'mlx_lm.generate --model ./{folder} --prompt "Once upon a time" --max-tokens 40',
            remark="Apple silicon, or Linux with mlx[cpu]",
        )
    else:
        arguments = f"pretrained={folder}" + (",trust_remote_code=True" if file.remote_code else "")
        third = Tool(
            name="lm-evaluation-harness",
            language="sh",
            code=f"lm_eval --model hf --model_args {arguments} --tasks piqa,arc_easy",
        )
    return [transformers, llama, third]


def opens_in_mlx(file: CardFile, architecture: Architecture, has_window: bool) -> bool:
    """Whether mlx-lm computes the same: it knows no remote code, no window in Mistral, and fewer shapes of Qwen."""
    fixed, heads = architecture.fixed, max(layer.num_attention_heads for layer in architecture.layers)
    if file.remote_code or has_window:
        return False
    if fixed.model_type == "qwen2":
        return heads * fixed.head_dim == architecture.hidden_size
    return not (fixed.model_type == "qwen3" and fixed.attention_output_bias)


def _for_gguf(path: str, folder: str, file: CardFile) -> list[Tool]:
    tools = [
        Tool(name="llama.cpp", language="sh", code=f'llama-cli -m {path} -p "Once upon a time" -n 40'),
        Tool(
            name="xllamacpp",
            language="python",
            code=(
                "import xllamacpp\n\n"
                "parameters = xllamacpp.CommonParams()\n"
                f'parameters.model.path = "{path}"\n'
                "parameters.n_ctx, parameters.verbosity = 2048, 1\n"
                "server = xllamacpp.Server(parameters)\n"
                'answer = server.handle_completions({"prompt": "Once upon a time", "max_tokens": 40})\n'
                'print(answer["choices"][0]["text"])'
            ),
            remark="llama.cpp in Python",
        ),
    ]
    if file.class_name in _READ_BY_TRANSFORMERS:
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{folder}", gguf_file="{file.name}")\n'
            f'model = AutoModelForCausalLM.from_pretrained("{folder}", gguf_file="{file.name}")\n'
            'inputs = tokenizer("Once upon a time", return_tensors="pt")\n'
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))"
        )
        remark = "which turns the weights back into floats"
        tools.append(Tool(name="transformers", language="python", code=code, remark=remark))
    else:
        code = f"llama-server -m {path} --port 8080"
        remark = "an OpenAI-compatible server at http://localhost:8080/v1"
        tools.append(Tool(name="llama-server", language="sh", code=code, remark=remark))
    return tools
