"""Every scenario, by importing the modules that register them."""

from simulation.scenarios import absence as absence
from simulation.scenarios import alternatives as alternatives
from simulation.scenarios import anything as anything
from simulation.scenarios import calm as calm
from simulation.scenarios import crowds as crowds
from simulation.scenarios import forks as forks
from simulation.scenarios import insiders as insiders
from simulation.scenarios import probes as probes
