"""Priors over poses, hands, shapes and faces, as pose spaces and residuals for the fitting engine."""
