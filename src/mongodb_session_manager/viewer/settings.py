"""Settings of the viewer, from the environment or a file `.env`."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any, Literal, Self

from pydantic import AliasChoices, AliasGenerator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings.sources import PydanticBaseSettingsSource

from ..flags import CollectionName, DatabaseName
from ..schema import paths
from ..web import check_binding, parse_hosts, parse_origins
from .prices import Prices
from .traces import Traces

logger = logging.getLogger(__name__)

# Those that the playground has, too.
_SHARED = ("mongodb_connection_string", "database_name", "collection_name", "log_level", "forwarded_allow_ips")

# Fields whose variables had no prefix up to 0.1: the field's name in capitals.
_RENAMED = (
    *("backend_password", "backend_host", "backend_port", "allowed_origins_str"),
    *("max_pool_size", "min_pool_size", "max_idle_time_ms", "default_page_size", "max_page_size"),
    *("enum_fields_str", "enum_max_values"),
)


def variable_of(field: str) -> str:
    """Return the environment variable of a field."""
    if field in _SHARED:
        return field.upper()
    return f"VIEWER_{field.removeprefix('backend_').removesuffix('_str').upper()}"


def _variables_of(field: str) -> AliasChoices:
    old = (field.upper(),) if field in _RENAMED else ()
    return AliasChoices(variable_of(field), *old)


class ViewerSettings(BaseSettings):
    """What the viewer needs to know.

    The environment variable of a field is its name in capitals, without `backend_` and `_str`, after `VIEWER_`; those
    of the connection string, the names of database and collection, the log level and the proxies have no prefix. The
    names of version 0.1, without any, still work, and a warning says the new one.

    Attributes:
        mongodb_connection_string: MongoDB server; unset for an embedded one with sample conversations.
        database_name: Database of the sessions.
        collection_name: Collection of the sessions.
        backend_password: Opens the whole viewer; at least 12 characters that are not blanks. Needed unless
            the host is this machine's own address.
        backend_host: Address to listen on.
        backend_port: Port to listen on; 0 lets the system choose.
        allowed_origins_str: Other origins whose pages may use the API, separated by commas.
        allowed_hosts_str: Host names by which the viewer is asked, separated by commas, besides `localhost`, the
            machine's own name and addresses; `*` for any.
        forwarded_allow_ips: Addresses and networks of proxies, separated by commas, whose `X-Forwarded-For` and
            `X-Forwarded-Proto` count; empty for none.
        max_pool_size: Most connections to MongoDB.
        min_pool_size: Connections that are kept open.
        max_idle_time_ms: Milliseconds after which an unused connection is closed.
        default_page_size: Sessions in a page, unless the request says otherwise.
        max_page_size: Most sessions in a page.
        enum_fields_str: Metadata fields to offer the stored values of, separated by commas.
        enum_max_values: Most values that are offered; a field with more is a plain one.
        model_prices_str: What models cost per million tokens, a JSON object such as
            `{"model-id": {"input": 3.0, "output": 15.0, "cache_read": 0.3, "cache_write": 3.75}}`; none for no cost.
        price_currency: In which currency that is.
        trace_url: Where traces are to be seen, with `{trace_id}` in it; none shows their ids alone.
        log_level: What is logged.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=_variables_of),
    )

    mongodb_connection_string: SecretStr | None = None
    database_name: DatabaseName = Field(default="examples")
    collection_name: CollectionName = Field(default="sessions")
    backend_password: SecretStr | None = None
    backend_host: str = Field(default="127.0.0.1", min_length=1)
    backend_port: int = Field(default=8882, ge=0, le=65535)
    allowed_origins_str: str = ""
    allowed_hosts_str: str = ""
    forwarded_allow_ips: str = ""
    max_pool_size: int = Field(default=100, ge=1)
    min_pool_size: int = Field(default=10, ge=0)
    max_idle_time_ms: int = Field(default=30_000, ge=0, le=10**9)
    default_page_size: int = Field(default=20, ge=1)
    max_page_size: int = Field(default=100, ge=1)
    enum_fields_str: str = ""
    enum_max_values: int = Field(default=50, ge=1)
    model_prices_str: str = ""
    price_currency: str = Field(default="USD", min_length=1, max_length=8)
    trace_url: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the usual sources of settings, and warn of those that have an old name."""
        for source in (env_settings, dotenv_settings):
            if isinstance(source, EnvSettingsSource):
                _warn_of_old_names({name for name, value in source.env_vars.items() if value})
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("model_prices_str")
    @classmethod
    def _are_prices(cls, value: str) -> str:
        Prices.parse(value)
        return value

    @field_validator("trace_url")
    @classmethod
    def _leads_to_traces(cls, value: str) -> str:
        Traces.parse(value)
        return value

    @field_validator("allowed_origins_str")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        parse_origins(_listed(value))
        return value

    @field_validator("allowed_hosts_str")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        parse_hosts(_listed(value))
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        check_binding(
            self.backend_host,
            self.password,
            host_setting=called("backend_host"),
            password_setting=called("backend_password", like="backend_host"),
        )
        if self.default_page_size > self.max_page_size:
            raise ValueError(
                f"invalid {called('default_page_size')}: it must be at most "
                f"{called('max_page_size')}={self.max_page_size}, got {self.default_page_size}"
            )
        if "min_pool_size" in self.model_fields_set and self.min_pool_size > self.max_pool_size:
            raise ValueError(
                f"invalid {called('min_pool_size')}: it must be at most "
                f"{called('max_pool_size')}={self.max_pool_size}, got {self.min_pool_size}"
            )
        return self

    @property
    def connection_string(self) -> str | None:
        """The user's MongoDB server, None for the embedded one."""
        given = self.mongodb_connection_string
        return (given.get_secret_value() if given else None) or None

    @property
    def password(self) -> str | None:
        """What opens the whole viewer, None for nothing."""
        return (self.backend_password.get_secret_value() if self.backend_password else None) or None

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Other origins whose pages may use the API."""
        return parse_origins(_listed(self.allowed_origins_str))

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Host names by which the viewer may be asked."""
        return parse_hosts(_listed(self.allowed_hosts_str)) | {
            self.backend_host.lower(),
            socket.gethostname().lower(),
        }

    @property
    def enum_fields(self) -> frozenset[str]:
        """Metadata fields to offer the stored values of, without `metadata.`."""
        return frozenset(name.removeprefix(paths.metadata("")) for name in _listed(self.enum_fields_str))

    @property
    def prices(self) -> Prices:
        """What models cost."""
        return Prices.parse(self.model_prices_str, self.price_currency)

    @property
    def traces(self) -> Traces:
        """Where traces are to be seen."""
        return Traces.parse(self.trace_url)

    def client_options(self) -> dict[str, int]:
        """Return the MongoDB client options that were set; the others are left to the connection string."""
        names = {"max_pool_size": "maxPoolSize", "min_pool_size": "minPoolSize", "max_idle_time_ms": "maxIdleTimeMS"}
        return {option: getattr(self, name) for name, option in names.items() if name in self.model_fields_set}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def called(field: str, *, like: str | None = None) -> str:
    """Return what the user calls a setting: by its old name where the environment does, or does so for another one."""
    given = like or field
    return field.upper() if given.upper() in os.environ and variable_of(given) not in os.environ else variable_of(field)


def _warn_of_old_names(given: set[str]) -> None:
    for field in _RENAMED:
        if field in given and variable_of(field).lower() not in given:
            logger.warning("setting=<%s> | renamed, use %s", field.upper(), variable_of(field))
