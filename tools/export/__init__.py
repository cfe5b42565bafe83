"""Export: a cut model as a checkpoint that stock software opens, and the compact form that trials are kept in."""
