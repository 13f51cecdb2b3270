"""Settings of the playground, from the environment or a `.env` file."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..flags import CollectionName, DatabaseName
from ..web import is_loopback, parse_hosts


class PlaygroundSettings(BaseSettings):
    """Where the playground runs, what it talks to and where it stores.

    Attributes:
        connection_string: `MONGODB_CONNECTION_STRING`: MongoDB server; unset for an embedded one, shared with the
            viewer; its data is temporary.
        database_name: `DATABASE_NAME`: database of the sessions.
        collection_name: `COLLECTION_NAME`: collection of the sessions; the viewer's, so that both show the same.
        model: `PLAYGROUND_MODEL`: `offline`, or `provider:id` as in `bedrock:<id>`, `openai:<id>`, `ollama:<id>`.
        agent: `PLAYGROUND_AGENT`: your own agent, as `package.module:function`; it is called with the session manager
            for each turn and returns a Strands `Agent`. Empty for the playground's own.
        reload: `PLAYGROUND_RELOAD`: read your agent's code again before a turn when it has changed.
        host: `PLAYGROUND_HOST`, an address of this machine: the playground has no password.
        port: `PLAYGROUND_PORT`: port to listen on; 0 lets the system choose.
        application_name: `PLAYGROUND_APPLICATION_NAME`: stored in the sessions it makes; others it leaves alone.
        viewer_url: `PLAYGROUND_VIEWER_URL`: where the session viewer runs; empty for no link.
        max_turns: `PLAYGROUND_MAX_TURNS`: replies in the making at the same time.
        shutdown_grace_s: `PLAYGROUND_SHUTDOWN_GRACE_S`: seconds that running replies have when the server ends.
        offline_delay_s: `PLAYGROUND_OFFLINE_DELAY_S`: seconds between two words of the offline model.
        log_level: `LOG_LEVEL`: what is logged.
        forwarded_allow_ips: `FORWARDED_ALLOW_IPS`: addresses of a proxy in front that asks for a password.
        allowed_hosts_str: `PLAYGROUND_ALLOWED_HOSTS`: host names that such a proxy passes on, separated by commas.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    connection_string: SecretStr | None = Field(default=None, validation_alias="MONGODB_CONNECTION_STRING")
    database_name: DatabaseName = Field(default="examples", validation_alias="DATABASE_NAME")
    collection_name: CollectionName = Field(default="sessions", validation_alias="COLLECTION_NAME")
    model: str = Field(default="offline", validation_alias="PLAYGROUND_MODEL")
    agent: str = Field(default="", validation_alias="PLAYGROUND_AGENT")
    reload: bool = Field(default=False, validation_alias="PLAYGROUND_RELOAD")
    host: str = Field(default="127.0.0.1", validation_alias="PLAYGROUND_HOST")
    port: int = Field(default=8880, ge=0, le=65535, validation_alias="PLAYGROUND_PORT")
    application_name: str = Field(
        default="playground", min_length=1, max_length=100, validation_alias="PLAYGROUND_APPLICATION_NAME"
    )
    viewer_url: str = Field(default="http://127.0.0.1:8882/", validation_alias="PLAYGROUND_VIEWER_URL")
    max_turns: int = Field(default=32, ge=1, le=10_000, validation_alias="PLAYGROUND_MAX_TURNS")
    shutdown_grace_s: float = Field(default=10.0, ge=0, le=600, validation_alias="PLAYGROUND_SHUTDOWN_GRACE_S")
    offline_delay_s: float = Field(default=0.03, ge=0, le=5, validation_alias="PLAYGROUND_OFFLINE_DELAY_S")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", validation_alias="LOG_LEVEL")
    forwarded_allow_ips: str = Field(default="", validation_alias="FORWARDED_ALLOW_IPS")
    allowed_hosts_str: str = Field(default="", validation_alias="PLAYGROUND_ALLOWED_HOSTS")

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _is_local(cls, value: str) -> str:
        if not is_loopback(value):
            raise ValueError(
                f"it must be an address of this machine, such as 127.0.0.1, got {value!r}: the playground has no "
                "password; to reach it from elsewhere use a reverse proxy that asks for one, with FORWARDED_ALLOW_IPS"
            )
        return value

    @field_validator("allowed_hosts_str")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        parse_hosts(_listed(value))
        return value

    @field_validator("viewer_url")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment):
            raise ValueError("it must be an address such as http://127.0.0.1:8882/")
        return value

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Host names by which the playground may be asked."""
        return parse_hosts(_listed(self.allowed_hosts_str))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
