hello: hello.c
	cc -O2 -o hello hello.c

check: hello
	sleep 1 && ./hello
