"""The prompt templates, one Markdown file each, and their loader."""

from prompts.library import PromptError, PromptHeader, PromptLibrary, RenderedPrompt

__all__ = ["PromptError", "PromptHeader", "PromptLibrary", "RenderedPrompt"]
