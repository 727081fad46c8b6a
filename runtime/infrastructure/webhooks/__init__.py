from runtime.infrastructure.webhooks.sender import EgressWebhookSender

__all__ = ["EgressWebhookSender"]
