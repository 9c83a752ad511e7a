$(eval $(call library,ctl,$(filter-out ctl/main.c ctl/sendmail.c,$(wildcard ctl/*.c))))
$(eval $(call program,veredus,ctl/main.c,ctl store mail util,$(UTIL_PKGS) -lcrypt))
$(eval $(call program,sendmail,ctl/sendmail.c,ctl mail util,$(UTIL_PKGS)))
# One program, which its name tells what to do.
$(BUILD)/bin/mailq $(BUILD)/bin/newaliases: $(BUILD)/bin/sendmail
	@ln -sf sendmail $@
PROGRAMS += $(BUILD)/bin/mailq $(BUILD)/bin/newaliases
