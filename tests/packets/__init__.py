"""The whole product on real packets: what is applied, broken, restarted and forged, as pods and operators meet it."""
