"""Facts that agents know again in later runs, and the words they are found by."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "memories",
        sa.Column("id", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("scope", words, nullable=False),
        sa.Column("line_id", words),
        sa.Column("namespace", words, nullable=False),
        sa.Column("key", words),
        sa.Column("identity", words, nullable=False),
        sa.Column("text", words, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("run_id", words),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("expires_at", time),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_memories"),
        sa.UniqueConstraint("project_id", "identity", name="uq_memories_project_id_identity"),
    )
    op.create_index(
        "ix_memories_project_id_owner_id_created_at",
        "memories",
        ["project_id", "owner_id", "created_at"],
    )
    op.create_index("ix_memories_expires_at", "memories", ["expires_at"])
    op.create_table(
        "memory_words",
        sa.Column("memory_id", words, nullable=False),
        sa.Column("word", words, nullable=False),
        sa.Column("project_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("reader", words, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(
            ["memory_id"],
            ["memories.id"],
            name="fk_memory_words_memory_id_memories",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("memory_id", "word", name="pk_memory_words"),
    )
    op.create_index(
        "ix_memory_words_project_id_word_reader",
        "memory_words",
        ["project_id", "word", "reader"],
    )
