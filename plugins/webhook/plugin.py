"""The webhook plugin: `notify` posts, `startup` and `shutdown` hold the connection, `commands` tries a URL."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
import typer

from dicomhub.plugin import Action, Archive, ConfigurationError, Event, Plugin, Unavailable

TIMEOUT_S = 20.0
"""Seconds the receiver gets to answer; what takes longer is delivered again."""
SIGNATURE_HEADER = "X-Dicomhub-Signature"
"""``t=<seconds>,sha256=<hex HMAC-SHA-256 of "<seconds>." and the body>``: the time guards against replay."""


class WebhookPlugin(Plugin):
    """Settings: ``url`` (required), ``secret`` (signs the body), ``actions`` (comma-separated; default all)."""

    name = "webhook"

    def __init__(self, settings: dict[str, str]) -> None:
        super().__init__(settings)
        self.url = settings.get("url", "")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                "plugin_settings.webhook.url: an http or https URL is needed, such as https://host/hook"
            )
        self.secret = settings.get("secret", "").encode()
        self.actions = {text.strip() for text in settings.get("actions", "").split(",") if text.strip()}
        unknown = self.actions - set(Action)
        if unknown:
            raise ConfigurationError(f"plugin_settings.webhook.actions: unknown {sorted(unknown)}")
        self._session: aiohttp.ClientSession | None = None

    async def startup(self, archive: Archive) -> None:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def shutdown(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()

    async def notify(self, event: Event) -> None:
        """Post the changes; anything but a 2xx answer has the core try again, later and in the same order."""
        changes = [c.as_json() for c in event.changes if not self.actions or c.action.value in self.actions]
        if changes:
            await self._post({"event": "instances-changed", "changes": changes})

    async def _post(self, message: dict[str, Any]) -> None:
        assert self._session is not None, "startup has not run"
        body = json.dumps(message, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", **self.signature(body)}
        try:
            async with self._session.post(self.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{self.url} does not answer: {str(error) or type(error).__name__}") from error
        if not 200 <= status < 300:
            raise Unavailable(f"{self.url} answered {status}")

    def signature(self, body: bytes) -> dict[str, str]:
        """The header that proves to the receiver who sent ``body``; empty without a secret."""
        if not self.secret:
            return {}
        now = str(int(time.time()))
        digest = hmac.new(self.secret, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {SIGNATURE_HEADER: f"t={now},sha256={digest}"}

    def commands(self) -> typer.Typer:
        """``dicomhub webhook test``."""
        group = typer.Typer(no_args_is_help=True, help="Notifications to an HTTP endpoint.")

        @group.callback()
        def webhook() -> None:
            """Notifications to an HTTP endpoint."""

        @group.command()
        def test(text: Annotated[str, typer.Option(help="Any text, to find the message again.")] = "test") -> None:
            """Post a test message to the configured URL. Exit status 1 when it is not taken."""
            asyncio.run(self._try(text))
            typer.echo(f"{self.url} took it")

        return group

    async def _try(self, text: str) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            self._session = session
            await self._post({"event": "test", "text": text})
