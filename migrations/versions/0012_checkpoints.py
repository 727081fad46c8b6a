"""What the steps of durable runs leave: states, the values in them, what single tasks wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("run_id", words, nullable=False),
        sa.Column("namespace", words, nullable=False),
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("parent_id", words),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("source", words, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "namespace", "id", name="pk_checkpoints"),
    )
    op.create_index("ix_checkpoints_created_at", "checkpoints", ["created_at"])
    op.create_table(
        "checkpoint_values",
        sa.Column("run_id", words, nullable=False),
        sa.Column("namespace", words, nullable=False),
        sa.Column("channel", words, nullable=False),
        sa.Column("version", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id", "namespace", "channel", "version", name="pk_checkpoint_values"
        ),
    )
    op.create_table(
        "checkpoint_writes",
        sa.Column("run_id", words, nullable=False),
        sa.Column("namespace", words, nullable=False),
        sa.Column("checkpoint_id", words, nullable=False),
        sa.Column("task_id", words, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("task_path", words, nullable=False),
        sa.Column("channel", words, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id",
            "namespace",
            "checkpoint_id",
            "task_id",
            "position",
            name="pk_checkpoint_writes",
        ),
    )
