"""Endpoints that are told of events, and the outbox of what they are told."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("url", words, nullable=False),
        sa.Column("event_types", words, nullable=False),
        sa.Column("line_id", words),
        sa.Column("scope", words, nullable=False),
        sa.Column("description", words, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("include_output", sa.Boolean, nullable=False),
        sa.Column("secret_sealed", words, nullable=False),
        sa.Column("previous_sealed", words),
        sa.Column("previous_until", time),
        sa.Column("failing_since", time),
        sa.Column("disabled_reason", words),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index(
        "ix_webhooks_project_id_created_at_id", "webhooks", ["project_id", "created_at", "id"]
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("webhook_id", words),
        sa.Column("run_id", words),
        sa.Column("target", words, nullable=False),
        sa.Column("url", words),
        sa.Column("secret_sealed", words),
        sa.Column("type", words, nullable=False),
        sa.Column("body", words, nullable=False),
        sa.Column("status", words, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("next_at", time),
        sa.Column("ended_at", time),
        sa.Column("status_code", sa.BigInteger),
        sa.Column("error", words),
        sa.Column("response", words),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    pending = sa.text("status = 'pending'")
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["next_at"],
        postgresql_where=pending,
        sqlite_where=pending,
    )
    op.create_index(
        "ix_webhook_deliveries_webhook_id_created_at_id",
        "webhook_deliveries",
        ["webhook_id", "created_at", "id"],
    )
    op.create_index("ix_webhook_deliveries_ended_at", "webhook_deliveries", ["ended_at"])
