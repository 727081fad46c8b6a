"""Responses, and the events of those that go on in the background."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "responses",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("model", words, nullable=False),
        sa.Column("status", words, nullable=False),
        sa.Column("background", sa.Boolean, nullable=False),
        sa.Column("previous_id", words),
        sa.Column("conversation", words),
        sa.Column("created_at", time, nullable=False),
        sa.Column("completed_at", time),
        sa.Column("lease_until", time),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("usage", sa.Text, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
        sa.Column("incomplete_reason", words),
        sa.PrimaryKeyConstraint("id", name="pk_responses"),
    )
    # For the sweep of what is too old, and of what nobody sees to any more.
    op.create_index("ix_responses_created_at", "responses", ["created_at"])
    op.create_index("ix_responses_lease_until", "responses", ["lease_until"])
    op.create_table(
        "run_events",
        sa.Column("run_id", words, nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_run_events"),
    )
