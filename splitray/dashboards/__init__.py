"""The run's dashboard for Grafana, made from the one description of splitray's metrics. No Ray is started."""

from splitray.dashboards.grafana import dashboard, write_dashboard
from splitray.dashboards.panels import ROWS, Panel, Query, Row

__all__ = ["ROWS", "Panel", "Query", "Row", "dashboard", "write_dashboard"]
