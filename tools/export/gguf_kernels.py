"""llama.cpp's own quantising functions, called in the library that the package xllamacpp brings."""

import ctypes
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from tools.errors import InputError


def quantised(
    values: "np.ndarray[Any, np.dtype[np.float32]]", type_name: str, threads: int = 1
) -> "np.ndarray[Any, Any]":
    """`values` [rows, row] as bytes [rows, bytes of a row], in blocks of the type; the same for any number of threads.

    A row must be a whole number of blocks. Raises ValueError where the type cannot hold the numbers, InputError where
    the installed xllamacpp has no such function.
    """
    kind = GGMLQuantizationType[type_name]
    block, size = GGML_QUANT_SIZES[kind]
    rows, row = values.shape
    if row % block:
        raise ValueError(f"rows of {row} are no whole number of blocks of {block}")
    source = np.ascontiguousarray(values, dtype=np.float32)
    target = np.empty((rows, row // block * size), dtype=np.uint8)
    library = _library()

    def work(first: int, last: int) -> None:
        library.ggml_quantize_chunk(
            int(kind), source.ctypes.data, target.ctypes.data, first * row, last - first, row, None
        )

    edges = [rows * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        # The list makes an error of a thread come out here.
        list(pool.map(work, edges[:-1], edges[1:]))
    if not library.ggml_validate_row_data(int(kind), target.ctypes.data, target.nbytes):
        raise ValueError(f"{type_name} cannot hold these numbers")
    return target


@cache
def _library() -> ctypes.CDLL:
    """The shared library that xllamacpp is made of, found without importing it: nothing of llama.cpp's is started."""
    spec = importlib.util.find_spec("xllamacpp")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    files = [file for folder in folders for suffix in EXTENSION_SUFFIXES for file in Path(folder).glob(f"*{suffix}")]
    if not files:
        raise InputError("Quantising needs the package xllamacpp; install it.")
    library = ctypes.CDLL(str(files[0]))
    if not hasattr(library, "ggml_quantize_chunk") or not hasattr(library, "ggml_validate_row_data"):
        raise InputError("The installed xllamacpp does not show its quantising functions; install another version.")
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,  # type
        ctypes.c_void_p,  # float32 source
        ctypes.c_void_p,  # target
        ctypes.c_int64,  # first weight
        ctypes.c_int64,  # rows
        ctypes.c_int64,  # weights in a row
        ctypes.c_void_p,  # importance matrix, none here
    ]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    library.ggml_validate_row_data.restype = ctypes.c_bool
    return library
