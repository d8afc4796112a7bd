"""The proof at equal compute: what is trained, the table of losses, the forecasts, the scores, the page."""
