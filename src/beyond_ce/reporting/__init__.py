"""Run folders, tracking, and what the reports of finished runs add up to: tables and figures."""
