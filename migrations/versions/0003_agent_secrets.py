"""The secrets of an agent's configuration, sealed, apart from it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Replicas of the version before leave it empty.
    op.add_column("agents", sa.Column("secrets", sa.Text))
