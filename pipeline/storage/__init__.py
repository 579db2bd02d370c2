"""The database. SQL lives here; functions take a Connection, the caller owns the transaction."""
