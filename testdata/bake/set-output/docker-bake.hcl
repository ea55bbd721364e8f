target "default" { output = ["type=oci,dest=x.tar"] }
