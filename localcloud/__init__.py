"""AWS on one machine: moto as the control plane, system containers as instances."""
