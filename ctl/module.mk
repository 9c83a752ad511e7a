$(eval $(call library,ctl,$(filter-out ctl/main.c ctl/sendmail.c,$(wildcard ctl/*.c))))
$(eval $(call program,veredus,ctl/main.c,ctl mail util,$(UTIL_PKGS) -lcrypt))
