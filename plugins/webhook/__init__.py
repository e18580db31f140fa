"""Delivers the change feed to an HTTP endpoint, signed, at least once and in order."""

from dicomhub_plugins.webhook.plugin import WebhookPlugin

__all__ = ["WebhookPlugin"]
