"""Requests that are not carried out twice: who holds their keys, and their answers, sealed."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("key", words, nullable=False),
        sa.Column("fingerprint", words, nullable=False),
        sa.Column("token", words, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("expires_at", time, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "owner_id", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_token", "idempotency_keys", ["token"])
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
