"""What a span says of a call of a chat model: OpenTelemetry's GenAI attributes, and OpenInference's beside them."""

from typing import Any

from agents.chat_answers import Answer
from agents.conversation import Question
from agents.settings import ChatSettings


def asked(question: Question, settings: ChatSettings, candidate: int) -> dict[str, Any]:
    """Attributes that are known before the answer."""
    messages = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in question.messages]
    provider, _, name = settings.chat_model.rpartition(":")
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider or "penjing",
        "gen_ai.request.model": name,
        "gen_ai.request.temperature": settings.temperature,
        "gen_ai.request.seed": settings.seed,
        "gen_ai.request.max_tokens": settings.max_tokens,
        "gen_ai.output.type": "json",
        "gen_ai.input.messages": messages,
        "llm.model_name": name,
        "input.value": question.messages[-1][1],
        "penjing.agent": question.agent,
        "penjing.turn": question.turn,
        "penjing.candidate": candidate,
        "penjing.prompt.name": question.prompt.name,
        "penjing.prompt.hash": question.prompt.hash,
        "penjing.prompt.variables": dict(question.prompt.variables),
        "penjing.schema": question.schema.__name__,
    }


def answered(answer: Answer, cost_usd: float | None, call_id: int | None) -> dict[str, Any]:
    """Attributes that the answer adds; `call_id` is the row that has all that was said."""
    said = [{"role": "assistant", "parts": [{"type": "text", "content": answer.raw}], "finish_reason": "stop"}]
    return {
        "gen_ai.response.model": answer.model,
        "gen_ai.usage.input_tokens": answer.input_tokens,
        "gen_ai.usage.output_tokens": answer.output_tokens,
        "gen_ai.output.messages": said,
        "output.value": answer.raw,
        "llm.token_count.prompt": answer.input_tokens,
        "llm.token_count.completion": answer.output_tokens,
        "llm.token_count.total": answer.input_tokens + answer.output_tokens,
        "llm.cost.total": cost_usd,
        "penjing.faults": list(answer.faults) or None,
        "penjing.call_id": call_id,
    }
