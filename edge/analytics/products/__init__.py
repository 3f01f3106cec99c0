"""Energy, cost, coal and CO2 by product: what machines used while they made it, and its share of what several share."""
