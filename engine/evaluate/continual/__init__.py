"""What is left of earlier tasks while later ones are learned: scenarios, measures, report."""
