"""What is likely wrong in manifests before they are applied: findings with stable codes. Values in, values out.

`codes` declares every finding, `world` is what is known beside the policies, and each other module looks for some of
the codes.
"""
