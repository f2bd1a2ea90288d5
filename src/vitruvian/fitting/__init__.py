"""Fitting bodies to observations: residuals, solvers and staged schedules."""
