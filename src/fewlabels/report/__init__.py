"""Records in, tables and one page out. Reads records and the tables' definitions alone, never a model or an image."""
