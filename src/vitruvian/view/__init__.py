"""Pictures, reports and the browser viewer."""
