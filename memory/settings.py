"""Settings of where memory is kept and how texts are compared; what agents get of it is set beside the agents."""

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from tools.addresses import without_password


class StoreSettings(BaseModel):
    """Places of the records and the vectors, and the text embedding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Not among what a run records of its settings: it may have a password, and the home knows the place.
    records: str | None = Field(
        None,
        exclude=True,
        description="database of the records, like postgresql://USER@HOST/NAME; null: a SQLite file in home; a home "
        "keeps to its first choice",
    )
    checkpoints: str | None = Field(
        None,
        description="PostgreSQL database of the checkpoints, like postgresql://USER@HOST/NAME, so that another machine "
        "can resume; null: a SQLite file in the run's folder; a run keeps to its first choice",
    )
    vectors: str | None = Field(
        None, description="address of a Chroma server, like http://localhost:8000; null: a folder in home"
    )
    artifacts: str | None = Field(
        None,
        description="address of fsspec for kept weights, surveys and exported models, like s3://BUCKET/FOLDER or "
        "file:///mnt/shared, so that another machine can resume or export; null: on this machine alone",
    )
    text_embedding: str = Field(
        "hashed",
        description="how lessons and prompts are compared: hashed (words and letters, computed here), or openai:MODEL "
        "of any OpenAI-compatible endpoint (OPENAI_API_KEY)",
    )
    embedding_url: str | None = Field(
        None, description="address of the endpoint of text_embedding, ending in /v1; null: OPENAI_BASE_URL, or OpenAI"
    )

    @field_validator("vectors")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("vectors is the address of a Chroma server, like http://localhost:8000")
        if value is not None and without_password(value) != value:
            raise ValueError("the address of a Chroma server has no password")
        return value

    @field_validator("checkpoints")
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        if value is not None and not (value.startswith(("postgresql://", "postgres://")) and _has_valid_port(value)):
            raise ValueError("checkpoints is the address of a PostgreSQL database, like postgresql://USER@HOST/NAME")
        return value

    @field_serializer("checkpoints", "artifacts")
    def _shown(self, value: str | None) -> str | None:
        """A run records its settings, and no password with them."""
        return None if value is None else without_password(value)

    @field_validator("text_embedding")
    @classmethod
    def _is_known(cls, value: str) -> str:
        provider, _, model = value.partition(":")
        if value != "hashed" and not (provider == "openai" and model):
            raise ValueError("text_embedding is hashed or openai:MODEL")
        return value


def _has_valid_port(address: str) -> bool:
    try:
        _ = urlsplit(address).port
    except ValueError:
        return False
    return True
