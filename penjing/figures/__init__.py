"""The pictures that people look at: what is in each as plain data, and both ways to draw it.

from penjing.figures import pareto_picture, plotly_figure

plotly_figure(pareto_picture(session.trials())).show()
"""

from penjing.figures.best_so_far import best_so_far_picture
from penjing.figures.drops import drops_picture
from penjing.figures.lineage import lineage_picture
from penjing.figures.matplotlib_drawing import save_picture
from penjing.figures.pareto import pareto_picture
from penjing.figures.picture import Panel, Picture, Series
from penjing.figures.plotly_figure import plotly_figure
from penjing.figures.shapes import shapes_picture
from penjing.figures.training import training_picture

__all__ = [
    "Panel",
    "Picture",
    "Series",
    "best_so_far_picture",
    "drops_picture",
    "lineage_picture",
    "pareto_picture",
    "plotly_figure",
    "save_picture",
    "shapes_picture",
    "training_picture",
]
