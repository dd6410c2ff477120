"""How long a request begins again while the database is away."""

from datetime import timedelta

PATIENCE = timedelta(seconds=0.3)
"""Its last try still has to end within the second."""
ONE_TRY = timedelta(0)
"""For what is tried again further out."""
