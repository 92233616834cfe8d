"""The comparison of all cells: table, ranking, figures, model cards and the report page."""
