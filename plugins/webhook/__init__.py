"""Delivers the change feed to an HTTP endpoint, signed, at least once and in order."""

from .plugin import WebhookPlugin

__all__ = ["WebhookPlugin"]
