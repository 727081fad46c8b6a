"""What people think of the answers: one opinion of each person and run."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Code point order on every database.
words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("project_id", words, nullable=False),
        sa.Column("run_id", words, nullable=False),
        sa.Column("owner_id", words, nullable=False),
        sa.Column("rating", words, nullable=False),
        sa.Column("comment", words),
        sa.Column("at", time, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "run_id", "owner_id", name="pk_feedback"),
    )
