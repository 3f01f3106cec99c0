"""Energy: registers to intervals, tariffs, demand, power factor, coal, carbon and the balance of the meter tree."""
